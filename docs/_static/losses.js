// The table of losses: show the rows of one task, and those that contain the words of a search.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.losses");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const tasksOf = (row) => row.cells[2].textContent.trim().split(/,\s*/);
  const tasks = [...new Set(rows.flatMap(tasksOf))].sort();

  const form = document.createElement("form");
  form.className = "filter";
  form.innerHTML =
    '<label>Task <select><option value="">all</option></select></label>' +
    '<label>Search <input type="search"></label> <output></output>';
  const [select, input, output] = ["select", "input", "output"].map((tag) => form.querySelector(tag));
  for (const task of tasks) select.add(new Option(task, task));

  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const chosen = !select.value || tasksOf(row).includes(select.value);
      row.hidden = !(chosen && words.every((word) => text.includes(word)));
    }
    output.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  (table.closest(".table-wrapper") || table).before(form);
  show();
});
