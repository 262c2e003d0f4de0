package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxDuration bounds every duration, so that adding one to a time never overflows.
const maxDuration = 100 * 365 * day

const day = 24 * time.Hour

// ParseDuration reads whole numbers with units, the largest first: 30d, 1d12h, 72h, 90s. A day is 24 hours. A number
// without a unit is refused because readers disagree about what it means.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration; write a number and a unit, such as 30d, 72h, 1d12h or 90s", quote(text))
	days, rest, found := strings.Cut(text, "d")
	if !found {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || rest == "0" || strings.ContainsAny(rest, "+-") {
		return 0, bad
	}
	if n > uint64(maxDuration/day) {
		return 0, fmt.Errorf("%s is longer than 100 years", quote(text))
	}
	d := time.Duration(n) * day
	if rest == "" && found {
		return d, nil
	}
	part, err := time.ParseDuration(rest)
	if err != nil {
		return 0, bad
	}
	if part > maxDuration-d {
		return 0, fmt.Errorf("%s is longer than 100 years", quote(text))
	}
	return d + part, nil
}

// show writes a duration as ParseDuration reads it: 7d, 12h, 90s.
func show(d time.Duration) string {
	text := ""
	if days := d / day; days > 0 {
		text, d = strconv.FormatInt(int64(days), 10)+"d", d%day
	}
	if d == 0 && text != "" {
		return text
	}
	rest := d.String()
	if strings.HasSuffix(rest, "m0s") {
		rest = strings.TrimSuffix(rest, "0s")
	}
	if strings.HasSuffix(rest, "h0m") {
		rest = strings.TrimSuffix(rest, "0m")
	}
	return text + rest
}
