// Package layers holds one test: that the tree keeps its floors and its size budgets, as docs/ARCHITECTURE.md states
// them. It has no code.
package layers
