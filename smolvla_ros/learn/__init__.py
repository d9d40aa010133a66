"""Making and teaching policies. Nothing in here runs beside a moving arm."""
