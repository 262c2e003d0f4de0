package imports

import (
	"net/url"

	"github.com/acmed/acmed/pkg/config"
)

// directoryNamed is the URL of the directory of a CA that other clients call by a name. What is no such name is the URL itself.
func directoryNamed(ca string) string {
	name := ca
	if name == "letsencrypt_test" || name == "letsencrypt-test" {
		name = "letsencrypt-staging"
	}
	if is, ok := new(config.Config).Issuer(name); ok {
		return is.Directory
	}
	return ca
}

// directoryOf is the directory of a well-known CA that has a URL; "" for others.
func directoryOf(address string) string {
	var known config.Config
	for _, name := range known.IssuerNames() {
		if is, _ := known.Issuer(name); hostOf(is.Directory) == hostOf(address) {
			return is.Directory
		}
	}
	return ""
}

// hostOf is the host of a URL, with its port.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
