//go:build !race

package renewal

// tenYearsLast is how long a life in TestTenYears is at most.
const tenYearsLast = 10 * 365 * day

// lifeDays is how long the lives in TestLives are, shortRuns how many lifetimes TestShortLives sees.
const (
	lifeDays  = 365
	shortRuns = 20
)

// simSeeds is how many lives TestFleetSimulation has without ACMED_SEEDS.
const simSeeds = 20
