"""A model under the microscope: what it does with a text, token by token, and the page that shows it."""
