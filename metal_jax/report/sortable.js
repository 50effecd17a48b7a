"use strict";
(() => {
  const keyOf = (cell) => {
    if (!("sort" in cell.dataset)) return cell.textContent.toLowerCase();
    return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
  };
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null); // unknown ones last
    return a < b ? -sign : a > b ? sign : 0;
  };
  const makeSortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numbers = head.classList.contains("num");
        const now = head.getAttribute("aria-sort");
        const downward = now ? now === "ascending" : numbers; // of numbers the largest first
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", downward ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
        rows.sort((a, b) => compare(a[0], b[0], downward ? -1 : 1));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  };
  const makeFilterable = (box) => {
    const tools = box.querySelector(".tools");
    if (!tools) return;
    const rows = [...box.querySelectorAll("tbody tr")];
    const input = tools.querySelector("input");
    const count = tools.querySelector(".count");
    const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
    const update = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        row.hidden = !words.every((word) => texts.get(row).includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    input.addEventListener("input", update);
    update();
    tools.hidden = false;
  };
  document.querySelectorAll("table.sortable").forEach(makeSortable);
  document.querySelectorAll(".table").forEach(makeFilterable);
})();
