"""The command line: one file a verb; each parses, calls the public function of the same name, prints, and exits."""
