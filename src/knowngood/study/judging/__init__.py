"""Are made images like real ones, are they new, and did they help?"""
