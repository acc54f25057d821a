// On a phone a table of text is a list of its cells (sfmts.css). Each cell then shows the heading of its column.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table")) {
    const names = [...table.querySelectorAll("thead tr:last-child th")].map((cell) => cell.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.children].slice(1).forEach((cell, i) => {
        if (names[i + 1] && cell.textContent.trim()) cell.dataset.label = names[i + 1];
      });
    }
  }
});
