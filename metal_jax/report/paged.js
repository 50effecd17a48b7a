"use strict";
(() => {
  const PAGE = 25;
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  // A name that may be broken after underscores.
  const breakable = (name) => name.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]);
  const grouped = (value) => value.toLocaleString("en");
  const format = (value, kind) => {
    if (value === null) return "\u2013";
    if (kind === "count") return grouped(value);
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    const text = size === 0 || (size >= 0.001 && size < 1e5) ? value.toFixed(size < 100 ? 3 : 1) : value.toPrecision(3);
    return text.replace("-", "\u2212");
  };

  class Paged {
    constructor(box) {
      this.box = box;
      this.data = JSON.parse(document.getElementById(`${box.id}-data`).textContent);
      this.page = 0;
      this.opened = new Set();
      this.sort = this.data.sort;
      this.texts = null;
      this.order = this.data.rows.map((_, i) => i);
      this.make();
      this.update();
      if (this.data.details.length && this.order.length) {
        this.opened.add(this.order[0]); // shows what a row holds
        this.draw();
      }
    }

    make() {
      const { columns, groups } = this.data;
      this.filter = element("input", { type: "search", autocomplete: "off" });
      this.filter.addEventListener("input", () => this.restart());
      const tools = element("div", { className: "tools" }, element("label", {}, "Filter ", this.filter));
      if (groups.length) {
        this.group = element("select", {}, new Option(`All (${grouped(this.data.rows.length)})`, ""));
        groups.forEach((group, i) => this.group.append(new Option(`${group.name} (${grouped(group.rows.length)})`, i)));
        this.group.addEventListener("change", () => this.restart());
        tools.append(element("label", {}, "Show ", this.group));
      }
      this.heads = columns.map((column, i) => {
        const button = element("button", { type: "button" }, column.name);
        button.addEventListener("click", () => {
          const same = this.sort && this.sort[0] === i;
          this.sort = [i, same ? !this.sort[1] : column.kind !== "text"];
          this.restart();
        });
        const head = element("th", { scope: "col" }, button);
        if (column.kind !== "text") head.className = "num";
        return head;
      });
      this.body = element("tbody");
      const table = element("table", {}, element("thead", {}, element("tr", {}, ...this.heads)), this.body);
      table.setAttribute("aria-labelledby", `${this.box.id}-caption`);
      const long = this.data.rows.some((row) => row.some((value, i) => i && String(value).length > 60));
      if (long) table.className = "full"; // texts take what room there is
      const frame = element("div", { className: "frame", tabIndex: 0 }, table);
      frame.setAttribute("role", "region");
      frame.setAttribute("aria-labelledby", `${this.box.id}-caption`);
      this.previous = element("button", { type: "button" }, "Previous");
      this.next = element("button", { type: "button" }, "Next");
      this.previous.addEventListener("click", () => this.turn(-1));
      this.next.addEventListener("click", () => this.turn(1));
      this.count = element("span", { className: "count" });
      this.count.setAttribute("role", "status");
      const pages = element("div", { className: "pages" }, this.previous, this.next, this.count);
      this.box.append(tools, frame, pages);
    }

    textOf(row) {
      const words = (this.data.details[row] || []).flatMap((detail) => detail[1].map((bar) => this.data.words[bar[0]]));
      return [...this.data.rows[row], ...words].join("\n").toLowerCase();
    }

    restart() {
      this.page = 0;
      this.update();
    }

    turn(by) {
      this.page += by;
      this.draw();
    }

    update() {
      const { rows, groups, columns } = this.data;
      const picked = this.group && this.group.value !== "" ? groups[Number(this.group.value)].rows : rows.keys();
      const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let order = [...picked];
      if (words.length) {
        this.texts ??= rows.map((_, i) => this.textOf(i));
        order = order.filter((i) => words.every((word) => this.texts[i].includes(word)));
      }
      if (this.sort) {
        const [column, downward] = this.sort;
        const sign = downward ? -1 : 1;
        const text = columns[column].kind === "text";
        const keys = new Map(order.map((i) => {
          const value = rows[i][column];
          return [i, text && value !== null ? String(value).toLowerCase() : value];
        }));
        order.sort((i, j) => {
          const a = keys.get(i);
          const b = keys.get(j);
          if (a === null || b === null) return (a === null) - (b === null);
          return a < b ? -sign : a > b ? sign : 0;
        });
      }
      this.heads.forEach((head, i) => {
        if (this.sort && this.sort[0] === i) head.setAttribute("aria-sort", this.sort[1] ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      this.order = order;
      this.draw();
    }

    draw() {
      const last = Math.max(Math.ceil(this.order.length / PAGE) - 1, 0);
      this.page = Math.min(Math.max(this.page, 0), last);
      const start = this.page * PAGE;
      const shown = this.order.slice(start, start + PAGE);
      this.body.replaceChildren(...shown.flatMap((row) => this.rowsOf(row)));
      this.previous.disabled = this.page === 0;
      this.next.disabled = this.page === last;
      const total = grouped(this.order.length);
      this.count.textContent = shown.length
        ? `${grouped(start + 1)}\u2013${grouped(start + shown.length)} of ${total}`
        : "No row fits the filter";
    }

    rowsOf(row) {
      const { columns, rows, details } = this.data;
      const cells = rows[row].map((value, i) => {
        const { kind } = columns[i];
        const cell = element(i ? "td" : "th", { className: kind === "text" ? "text" : "num", dir: "auto" });
        if (!i) cell.scope = "row";
        const text = format(value, kind);
        if (kind === "text" && i) cell.append(element("span", { className: "clamp" }, ...this.pieces(row, i, text)));
        else cell.append(text);
        return cell;
      });
      const line = element("tr", {}, ...cells);
      if (!details.length) return [line];
      const open = this.opened.has(row);
      const button = element("button", { type: "button", className: "open" }, open ? "\u25be" : "\u25b8");
      button.setAttribute("aria-expanded", String(open));
      button.setAttribute("aria-label", `Details of ${rows[row][0]}`);
      button.addEventListener("click", () => {
        if (!this.opened.delete(row)) this.opened.add(row);
        const place = [...this.body.querySelectorAll(".open")].indexOf(button);
        this.draw();
        this.body.querySelectorAll(".open")[place].focus();
      });
      cells[0].prepend(button);
      return open ? [line, this.detailOf(row)] : [line];
    }

    // The text of a cell, with what is marked in elements of its own.
    pieces(row, column, text) {
      const marks = (column === this.data.marked && this.data.marks[row]) || [];
      const made = [];
      let at = 0;
      for (const [start, stop, label] of marks) {
        made.push(text.slice(at, start), element("mark", { title: label }, text.slice(start, stop)));
        at = stop;
      }
      return [...made, text.slice(at)];
    }

    detailOf(row) {
      const { columns, rows, details, words, signed } = this.data;
      const box = element("div", { className: "box" });
      rows[row].forEach((value, i) => {
        if (i && columns[i].kind === "text" && String(value).length > 60) box.append(element("p", { dir: "auto" }, ...this.pieces(row, i, String(value))));
      });
      for (const [title, bars] of details[row]) {
        const largest = signed ? Math.max(...bars.map((bar) => Math.abs(bar[2])), 1e-9) : 1;
        const body = element("tbody");
        for (const [name, note, value] of bars) {
          const share = Math.min(Math.abs(value) / largest, 1) * (signed ? 50 : 100);
          const fill = element("i", { className: value < 0 ? "against" : "" });
          fill.style.width = `${share}%`;
          fill.style.left = signed ? `${value < 0 ? 50 - share : 50}%` : "0";
          const track = element("span", { className: signed ? "track signed" : "track" }, fill);
          const sign = signed && value > 0 ? "+" : "";
          body.append(element("tr", {},
            element("th", { scope: "row" }, ...breakable(words[name])),
            element("td", {}, ...breakable(words[note])),
            element("td", { className: "num" }, sign + format(value, "number")),
            element("td", {}, track)));
        }
        const table = element("table", { className: "bars" }, body);
        table.setAttribute("aria-label", words[title]);
        box.append(element("h3", {}, words[title]), table);
      }
      return element("tr", { className: "detail" }, element("td", { colSpan: columns.length }, box));
    }
  }
  document.querySelectorAll(".paged").forEach((box) => new Paged(box));
})();
