"""The report in the forms that other performance tools read: one file for each of their runs, as they write them."""
