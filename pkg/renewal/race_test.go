//go:build race

package renewal

// years is how long the life in TestTenYears is. With the race detector it is shorter: everything takes ten times as long,
// and races show in the first weeks.
const years = 1

// simSeeds is how many lives TestFleetSimulation has without ACMED_SEEDS.
const simSeeds = 2
