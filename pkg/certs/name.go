package certs

import (
	"fmt"
	"strings"
)

// MaxName is the longest certificate name, in bytes.
const MaxName = 64

// CheckName reports why a certificate name cannot be used. A name becomes a directory, so it follows
// [a-z0-9][a-z0-9._-]{0,63}, contains no "..", and is none of the words the state directory or other systems reserve.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the certificate name is empty; use a short word such as %q", "www")
	case len(name) > MaxName:
		return fmt.Errorf("the certificate name has %d characters, at most %d are allowed", len(name), MaxName)
	}
	for i := range len(name) {
		if !nameByte(name[i], i == 0) {
			return fmt.Errorf("certificate name %q: character %q is not allowed at position %d; use a-z, 0-9, and after the first also . _ -",
				name, rune(name[i]), i+1)
		}
	}
	if strings.Contains(name, "..") || strings.HasSuffix(name, ".") {
		return fmt.Errorf("certificate name %q: dots must stand alone and not at the end", name)
	}
	if reservedName(name) {
		return fmt.Errorf("certificate name %q is reserved; choose another", name)
	}
	return nil
}

func nameByte(c byte, first bool) bool {
	if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
		return true
	}
	return !first && (c == '.' || c == '_' || c == '-')
}

func reservedName(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	switch stem {
	case "con", "prn", "aux", "nul", "current", "versions", "state", "lock", "default", "all":
		return true
	}
	if len(stem) == 4 && (stem[:3] == "com" || stem[:3] == "lpt") {
		return stem[3] >= '0' && stem[3] <= '9'
	}
	return false
}
