// Tables that are wider than the screen are scrolled with the keyboard too.
document$.subscribe(() =>
  requestAnimationFrame(() => {
    for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap, .dataframe")) wrap.tabIndex = 0;
  }),
);
