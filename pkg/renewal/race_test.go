//go:build race

package renewal

// tenYearsLast is how long a life in TestTenYears is at most. With the race detector it is shorter: everything takes ten times as
// long, and races show in the first weeks.
const tenYearsLast = 70 * day

// lifeDays is how long the lives in TestLives are, shortRuns how many lifetimes TestShortLives sees.
const (
	lifeDays  = 90
	shortRuns = 5
)

// simSeeds is how many lives TestFleetSimulation has without ACMED_SEEDS.
const simSeeds = 2
