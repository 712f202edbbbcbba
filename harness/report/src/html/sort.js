for (const table of document.querySelectorAll('.sortable table')) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement('button');
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    button.onclick = () => {
      const order = head.ariaSort === 'descending' ? 'ascending' : 'descending';
      for (const other of head.parentNode.cells) other.ariaSort = null;
      head.ariaSort = order;
      const rows = [...body.rows].sort((a, b) => value(a).localeCompare(value(b), 'en', { numeric: true }));
      body.append(...(order === 'descending' ? rows.reverse() : rows));
    };
  });
}
