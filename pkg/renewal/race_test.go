//go:build race

package renewal

// years is how long the life in TestTenYears is. With the race detector it is shorter: everything takes ten times as long,
// and races show in the first weeks.
const years = 1
