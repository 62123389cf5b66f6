// Sorts the table of cases by the column whose head is clicked; a second click turns the order.
"use strict";
(function () {
  const table = document.getElementById("case-table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  function value(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const turned = head.getAttribute("aria-sort") === "descending";
      const sign = turned ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y)));
      });
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", turned ? "ascending" : "descending");
      body.append(...rows);
    });
  });
}());
