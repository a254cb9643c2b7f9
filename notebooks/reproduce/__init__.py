"""The papers' figures and tables: frozen descriptions and the rows that they make (``figure``), and how they are drawn."""
