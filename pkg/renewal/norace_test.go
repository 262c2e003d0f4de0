//go:build !race

package renewal

// years is how long the life in TestTenYears is.
const years = 10

// simSeeds is how many lives TestFleetSimulation has without ACMED_SEEDS.
const simSeeds = 20
