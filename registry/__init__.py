"""What exists: applications, models and their versions, and the variants that conversions make of them."""
