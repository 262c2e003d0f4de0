//go:build !race

package renewal

// years is how long the life in TestTenYears is.
const years = 10
