"""What people see: tables on the terminal, figures, reports. They read rows and compute no results."""
