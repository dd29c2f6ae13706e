"""What the measuring commands share: the machine, its peak, processes and jobs, phases, spread, tables, pages."""
