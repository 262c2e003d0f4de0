package endpoint

import (
	"slices"
	"strings"
)

// Unfit reports whether an OpenSSL cipher list surely has no suite for a key of the family, so that clients before TLS 1.3
// cannot connect. What only OpenSSL can tell fits.
func Unfit(list string, key Family) bool {
	if key == AnyFamily {
		return false
	}
	some, fits := false, false
	for _, element := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":, ;", r) }) {
		switch {
		case strings.HasPrefix(element, "@"), strings.HasPrefix(element, "+"), strings.HasPrefix(element, "-"):
		case strings.HasPrefix(element, "!"):
			if slices.Contains(exclusions(key), element[1:]) {
				return true
			}
		default:
			some = true
			fits = fits || mayFit(element, key)
		}
	}
	return some && !fits
}

// exclusions are the words that take away all suites of a family. A suite with an ECDSA key needs ECDHE.
func exclusions(key Family) []string {
	if key == RSA {
		return []string{"aRSA", "ALL"}
	}
	return []string{"aECDSA", "ECDSA", "ECDHE", "EECDH", "kECDHE", "kEECDH", "ALL"}
}

// mayFit reports whether an element of a list, the name of a suite or words joined by "+", may add a suite of a family.
func mayFit(element string, key Family) bool {
	if strings.ContainsAny(element, "-_") {
		isECDSA := strings.Contains(element, "ECDSA")
		isTLS13 := strings.HasPrefix(element, "TLS_") && !strings.Contains(element, "_WITH_")
		return !isTLS13 && isECDSA == (key == ECDSA)
	}
	others := []string{"ECDSA", "aECDSA", "PSK", "aPSK", "kPSK", "aNULL", "ADH", "AECDH", "SRP", "DSS", "aDSS"}
	if key == ECDSA {
		others = []string{"RSA", "aRSA", "kRSA", "DH", "DHE", "EDH", "kDH", "kDHE", "kEDH", "PSK", "aPSK", "kPSK", "aNULL", "ADH", "AECDH", "SRP", "DSS", "aDSS"}
	}
	return !slices.ContainsFunc(strings.Split(element, "+"), func(word string) bool { return slices.Contains(others, word) })
}
