// The map: points are stamped into one picture, so that a redraw costs a few operations a point; what moves with the
// pointer is drawn on a canvas above it, and looked for in the cells of a grid around it.
(async () => {
  const at = (id) => document.getElementById(id), held = at("data").dataset;
  const { header, arrays } = await unpacked(held.points);
  const { count, root, names, layouts, colourings } = header;
  const sheets = JSON.parse(held.sheets), pictures = [], NONE = 65535, CELLS = 64;
  const [points, over, stage, tip] = ["points", "over", "stage", "tip"].map(at);
  const near = arrays.near, many = near.length / count, selected = new Set();
  let colour = 0, layout = 0, chosen = -1, hovered = -1, shown = [], scale = 1, left = 0, top = 0, path = null, grid;

  async function unpacked(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const whole = await new Response(stream).arrayBuffer(), length = new DataView(whole).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, length))), arrays = {};
    const kinds = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array };
    for (const [name, { bytes, start, length: size }] of Object.entries(header.arrays))
      arrays[name] = new kinds[bytes](whole, 4 + length + start, size);
    return { header, arrays };
  }

  // what an image is called
  const called = (i) => names[i] ?? `image ${arrays.numbers[i]}`;
  const groups = (i) => colourings.map((each, c) => [each.title, each.names[arrays["of" + c][i]]]);
  const told = (i) => `${called(i)}; ${groups(i).map(([title, name]) => `${title}: ${name}`).join(", ")}`;

  // thumbnails
  const picture = (sheet) => (pictures[sheet] ??= Object.assign(new Image(), { src: sheets.uris[sheet] }));
  function paint(canvas, i) {
    const place = arrays.thumbnails[i], { side, across } = sheets;
    if (place === NONE) return false;
    const sheet = picture(Math.floor(place / across ** 2)), spot = place % across ** 2;
    canvas.width = canvas.height = side;
    const draw = () => canvas.getContext("2d").drawImage(sheet, (spot % across) * side, Math.floor(spot / across) * side, side, side, 0, 0, side, side);
    sheet.complete ? draw() : sheet.addEventListener("load", draw, { once: true });
    return true;
  }
  function thumbnail(i) {
    const canvas = Object.assign(document.createElement("canvas"), { className: "thumb" });
    canvas.setAttribute("aria-hidden", "true");
    return paint(canvas, i) ? [canvas] : [];
  }
  function pick(i) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "pick" });
    button.append(...thumbnail(i), Object.assign(document.createElement("span"), { textContent: called(i) }));
    button.addEventListener("click", () => choose(i));
    return button;
  }

  // from numbers to pixels, of which there are `ratio` in one of the page's
  const ratio = Math.min(2, devicePixelRatio || 1), SPAN = 65535;
  const base = () => Math.min(points.width, points.height) * 0.94;
  const X = (i) => (arrays["x" + layout][i] / SPAN - 0.5) * base() * scale + points.width / 2 + left;
  const Y = (i) => (arrays["y" + layout][i] / SPAN - 0.5) * base() * scale + points.height / 2 + top;
  const visible = (i) => shown[arrays["of" + colour][i]];
  const radius = () => Math.max(1, Math.round((count > 20000 ? 1.4 : count > 2000 ? 2.4 : 4) * ratio * Math.min(2, scale ** 0.3)));

  // images of one group lie neither above nor below those of the others: they are drawn in the order of this step
  const common = (a, b) => (b ? common(b, a % b) : a);
  let step = Math.max(1, Math.round(count * 0.618));
  while (common(step, count) > 1) step++;

  function draw() {
    const { width, height } = points, context = points.getContext("2d"), image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer), r = radius(), disc = [];
    for (let y = -r; y <= r; y++) for (let x = -r; x <= r; x++) if (x * x + y * y <= (r + 0.4) ** 2) disc.push(y * width + x);
    const colours = colourings[colour].colours.map((hex) => {
      const [red, green, blue] = [1, 3, 5].map((from) => parseInt(hex.slice(from, from + 2), 16));
      return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    });
    const of = arrays["of" + colour], xs = arrays["x" + layout], ys = arrays["y" + layout];
    const by = (base() * scale) / SPAN, x0 = width / 2 + left - (base() * scale) / 2, y0 = height / 2 + top - (base() * scale) / 2;
    let drawn = 0;
    for (let n = 0, i = 0; n < count; n++, i = (i + step) % count) {
      const x = Math.round(xs[i] * by + x0), y = Math.round(ys[i] * by + y0);
      if (!shown[of[i]] || x < r || y < r || x >= width - r || y >= height - r) continue;
      const middle = y * width + x, ink = colours[of[i]];
      for (let d = 0; d < disc.length; d++) pixels[middle + disc[d]] = ink;
      drawn++;
    }
    context.putImageData(image, 0, 0);
    stage.dataset.drawn = drawn;
    mark();
  }
  function mark() {
    const context = over.getContext("2d"), ink = getComputedStyle(stage).color;
    context.clearRect(0, 0, over.width, over.height);
    context.lineWidth = 2 * ratio;
    const ring = (i, size, stroke) => {
      context.strokeStyle = stroke;
      context.beginPath();
      context.arc(X(i), Y(i), size * ratio, 0, 7);
      context.stroke();
    };
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    if (selected.size) {
      context.fillStyle = ink;
      for (const i of selected) context.fillRect(X(i) - ratio, Y(i) - ratio, 2 * ratio, 2 * ratio);
    }
    if (chosen >= 0) {
      for (let n = 0; n < many; n++) ring(near[chosen * many + n], 6, accent);
      ring(chosen, 9, ink);
    }
    if (hovered >= 0) ring(hovered, 7, ink);
    if (path) {
      context.strokeStyle = accent;
      context.beginPath();
      path.forEach(([x, y]) => context.lineTo(x, y));
      context.stroke();
    }
  }
  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => ((waiting = false), draw()));
  }

  // which image is under the pointer: those in the cells of a grid, made once a layout, that it is near
  function gridded() {
    const cells = Array.from({ length: CELLS ** 2 }, () => []), xs = arrays["x" + layout], ys = arrays["y" + layout];
    for (let i = 0; i < count; i++) cells[cell(ys[i]) * CELLS + cell(xs[i])].push(i);
    return cells;
  }
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor((value / SPAN) * CELLS)));
  function under(x, y) {
    const reach = 12 * ratio, to = (value, size, off) => ((value - size / 2 - off) / (base() * scale) + 0.5) * SPAN;
    const [west, east] = [x - reach, x + reach].map((value) => cell(to(value, points.width, left)));
    const [north, south] = [y - reach, y + reach].map((value) => cell(to(value, points.height, top)));
    let best = -1, least = reach ** 2, looked = 0;
    for (let row = north; row <= south; row++)
      for (let column = west; column <= east; column++)
        for (const i of grid[row * CELLS + column]) {
          looked++;
          const far = (X(i) - x) ** 2 + (Y(i) - y) ** 2;
          if (far < least && visible(i)) [best, least] = [i, far];
        }
    stage.dataset.looked = looked;
    return best;
  }

  function hover(i, x, y) {
    if (i === hovered) return;
    hovered = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      tip.replaceChildren(...thumbnail(i), called(i), document.createElement("br"), groups(i)[colour].join(": "));
      tip.style.left = `${Math.max(4, Math.min(x / ratio + 14, stage.clientWidth - 240))}px`;
      tip.style.top = `${Math.max(4, Math.min(y / ratio + 14, stage.clientHeight - 130))}px`;
    }
    mark();
  }
  function choose(i) {
    chosen = i;
    at("told").textContent = i < 0 ? "No image is chosen." : told(i);
    const list = Object.assign(document.createElement("ol"), { id: "near" });
    for (let n = 0; i >= 0 && n < many; n++) {
      const item = document.createElement("li");
      item.append(pick(near[i * many + n]));
      list.append(item);
    }
    const title = Object.assign(document.createElement("b"), { textContent: "Nearest in all features" });
    at("chosen").replaceChildren(...(i < 0 ? [] : [...thumbnail(i), title, list]));
    if (i >= 0) seen(i);
    mark();
  }
  function seen(i) {
    const [x, y] = [X(i), Y(i)];
    if (x > 0 && y > 0 && x < points.width && y < points.height) return;
    left += points.width / 2 - x;
    top += points.height / 2 - y;
    redraw();
  }

  // selecting
  function select(found) {
    found.forEach((i) => selected.add(i));
    at("selected").hidden = !selected.size;
    at("many").textContent = selected.size.toLocaleString("en");
    mark();
  }
  function within(corners) {
    const inside = (x, y) => corners.reduce((is, [x1, y1], n) => {
      const [x2, y2] = corners[(n + 1) % corners.length];
      return y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1 ? !is : is;
    }, false);
    const found = [];
    for (let i = 0; i < count; i++) if (visible(i) && inside(X(i), Y(i))) found.push(i);
    return found;
  }
  function csv() {
    const quoted = (text) => (/[",\n\r]/.test(text) ? `"${String(text).replaceAll('"', '""')}"` : text);
    const head = ["number", ...(names.length ? ["path"] : []), ...colourings.map((each) => each.title)];
    const rows = [...selected].sort((a, b) => a - b).map((i) => [
      arrays.numbers[i], ...(names.length ? [root + names[i]] : []), ...groups(i).map(([, name]) => name),
    ]);
    return [head, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
  }
  at("save").addEventListener("click", () => {
    const href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    Object.assign(document.createElement("a"), { href, download: "selected.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
  at("drop").addEventListener("click", () => (selected.clear(), select([]), over.focus()));

  // pointers, wheel, keys
  const spot = (event) => {
    const box = over.getBoundingClientRect();
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  let from = null, moved = 0;
  over.addEventListener("pointerdown", (event) => {
    over.setPointerCapture(event.pointerId);
    [from, moved] = [spot(event), 0];
    if (event.shiftKey || at("lasso").ariaPressed === "true") path = [from];
  });
  over.addEventListener("pointermove", (event) => {
    const [x, y] = spot(event);
    if (!from) return hover(under(x, y), x, y);
    moved += Math.abs(x - from[0]) + Math.abs(y - from[1]);
    if (path) path.push([x, y]), mark();
    else (left += x - from[0]), (top += y - from[1]), redraw();
    from = [x, y];
  });
  over.addEventListener("pointerup", (event) => {
    if (path && path.length > 2) select(within(path));
    else if (moved < 6 * ratio) choose(under(...spot(event)));
    [from, path] = [null, null];
    mark();
  });
  over.addEventListener("pointercancel", () => (([from, path] = [null, null]), mark()));
  over.addEventListener("pointerleave", () => hover(-1));
  function zoom(by, x = points.width / 2, y = points.height / 2) {
    const next = Math.min(200, Math.max(0.5, scale * by)), real = next / scale;
    left = (x - points.width / 2) * (1 - real) + left * real;
    top = (y - points.height / 2) * (1 - real) + top * real;
    scale = next;
    redraw();
  }
  over.addEventListener("wheel", (event) => (event.preventDefault(), zoom(1.0015 ** -event.deltaY, ...spot(event))), { passive: false });
  const whole = () => (([scale, left, top] = [1, 0, 0]), redraw());
  function beside(dx, dy) {
    if (chosen < 0) return under(points.width / 2, points.height / 2) >= 0 ? under(points.width / 2, points.height / 2) : middle();
    let best = chosen, least = Infinity;
    for (let i = 0; i < count; i++) {
      const x = X(i) - X(chosen), y = Y(i) - Y(chosen), ahead = x * dx + y * dy, far = x * x + y * y;
      if (i !== chosen && visible(i) && ahead > 0 && ahead * ahead >= far / 2 && far < least) [best, least] = [i, far];
    }
    return best;
  }
  function middle() {
    let best = -1, least = Infinity;
    for (let i = 0; i < count; i++) {
      const far = (X(i) - points.width / 2) ** 2 + (Y(i) - points.height / 2) ** 2;
      if (visible(i) && far < least) [best, least] = [i, far];
    }
    return best;
  }
  const keys = {
    ArrowLeft: () => choose(beside(-1, 0)), ArrowRight: () => choose(beside(1, 0)),
    ArrowUp: () => choose(beside(0, -1)), ArrowDown: () => choose(beside(0, 1)),
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: whole,
    s: () => chosen >= 0 && select([chosen]), Escape: () => (selected.clear(), select([]), choose(-1)),
  };
  over.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  // what is shown
  function legend() {
    const { names: called, colours } = colourings[colour];
    shown = called.map(() => true);
    at("legend").replaceChildren(...called.map((name, group) => {
      const button = Object.assign(document.createElement("button"), { type: "button", ariaPressed: "true" });
      const swatch = document.createElement("i");
      swatch.style.background = colours[group];
      button.append(swatch, name);
      button.addEventListener("click", () => {
        shown[group] = !shown[group];
        button.ariaPressed = String(shown[group]);
        redraw();
      });
      return button;
    }));
  }
  at("colour").addEventListener("change", (event) => ((colour = +event.target.value), legend(), redraw()));
  at("layout").addEventListener("change", (event) => ((layout = +event.target.value), (grid = gridded()), whole()));
  at("lasso").addEventListener("click", (event) => (event.target.ariaPressed = String(event.target.ariaPressed !== "true")));
  at("all").addEventListener("click", whole);
  for (const button of document.querySelectorAll("button.pick[data-point]"))
    button.addEventListener("click", () => (choose(+button.dataset.point), at("map").scrollIntoView()));
  const unseen = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    if (isIntersecting) paint(target, +target.dataset.point), unseen.unobserve(target);
  }), { rootMargin: "400px" });
  document.querySelectorAll("canvas.thumb[data-point]").forEach((canvas) => unseen.observe(canvas));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", mark);

  function fit() {
    for (const canvas of [points, over])
      Object.assign(canvas, { width: Math.max(1, stage.clientWidth * ratio), height: Math.max(1, stage.clientHeight * ratio) });
    draw();
  }
  legend();
  grid = gridded();
  new ResizeObserver(fit).observe(stage);
  stage.dataset.ready = "yes";
})();
