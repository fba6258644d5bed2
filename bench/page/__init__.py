"""docs/benchmarks.md and its pictures, made from the JSON files beside them."""
