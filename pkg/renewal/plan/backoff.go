package plan

import "time"

// Retries is how long to wait after the first failures. A minute covers a restart of the CA or of a resolver, ten
// minutes a reload gone wrong, a hundred minutes the hourly failed-validation limit of public CAs (5 per name and hour).
// After that only a person helps, and a person reads the daily line.
func Retries() []time.Duration {
	return []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute}
}

const (
	retryDaily = day

	// Near expiry a day is too long. A twelfth of what remains gives two more tries each day a week before the end and
	// one every two hours on the last day, and never more than one an hour, or in the 24th part of a short lifetime.
	// After expiry the distance grows again the same way, so that a name nobody needs any more ends at one try a day.
	nearExpiryShare = 12
	nearExpiryFloor = time.Hour
)

// Backoff is how long to wait after the given number of consecutive failures (1 is the first). The validity that
// remains shortens the daily wait; zero means that there is no certificate to lose. A lifetime of 0 is unknown. Spread is
// a number in [0, 1) drawn once by the caller: it shifts the result by up to ±10 % so that failures that began together
// do not stay together.
//
// The result lies between 54 seconds and 26.4 hours for every input, and is shorter only for lifetimes below a day.
func Backoff(failures int, left, lifetime time.Duration, spread float64) time.Duration {
	table := Retries()
	wait := retryDaily
	if i := max(failures, 1) - 1; i < len(table) {
		wait = table[i]
	}
	if left != 0 {
		wait = min(wait, max(left.Abs()/nearExpiryShare, share(nearExpiryFloor, lifetime, 24)))
	}
	return wait + time.Duration((spread*2-1)/10*float64(wait))
}
