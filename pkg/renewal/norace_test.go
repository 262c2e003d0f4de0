//go:build !race

package renewal

// years is how long the life in TestTenYears is.
const years = 10

// lifeDays is how long the lives in TestLives are, shortRuns how many lifetimes TestShortLives sees.
const (
	lifeDays  = 365
	shortRuns = 20
)

// simSeeds is how many lives TestFleetSimulation has without ACMED_SEEDS.
const simSeeds = 20
