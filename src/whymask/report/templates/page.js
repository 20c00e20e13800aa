// Tables sort by a click on their heading, files that the page holds are unpacked: without this script it only loses that.
for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const number = (text) => parseFloat(text.replace("\u2212", "-").replaceAll(",", ""));
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (number(x) - number(y) || x.localeCompare(y));
      });
      table.tBodies[0].append(...rows);
    });
  });
}
for (const link of document.querySelectorAll("a[data-gzip]")) {
  const packed = Uint8Array.from(atob(link.dataset.gzip), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  new Response(unpacked).blob().then((file) => {
    link.href = URL.createObjectURL(file);
    link.hidden = false;
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.numbers)").forEach((d) => (d.open = true)));
