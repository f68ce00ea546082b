"""What people see: progress and tables on the terminal, Markdown tables, figures."""
