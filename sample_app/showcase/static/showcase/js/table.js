// Fill a list with rows of a name, a value and a time.
export function fillTable(list, rows) {
  list.replaceChildren(...rows.map(({ name, value, note }) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const data = document.createElement("dd");
    const small = document.createElement("small");
    term.textContent = name;
    data.textContent = value;
    small.textContent = note;
    data.append(small);
    row.append(term, data);
    return row;
  }));
}
