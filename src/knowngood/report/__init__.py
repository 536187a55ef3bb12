"""Results -> tables, figures and one self-contained HTML page; it computes nothing that decides."""
