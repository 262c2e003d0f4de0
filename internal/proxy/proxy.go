// Package proxy reads the setting of a proxy, the same for everything that asks others over HTTP. The environment has no
// say: a daemon's requests go where its configuration says.
package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// None is the setting for a direct connection where a proxy is configured for all others.
const None = "none"

// Check reports what is wrong with a setting: "", [None], or the URL of an http, https or socks5 proxy. Its error repeats no
// password.
func Check(text string) error {
	_, err := parse(text)
	return err
}

func parse(text string) (*url.URL, error) {
	if text == "" || text == None {
		return nil, nil //nolint:nilnil // no proxy
	}
	u, err := url.Parse(text)
	known := []string{"http", "https", "socks5", "socks5h"}
	switch {
	case err != nil || u.Hostname() == "":
		return nil, errors.New("not the URL of a proxy, such as http://proxy.example.com:3128, or none")
	case !slices.Contains(known, u.Scheme):
		return nil, fmt.Errorf("a proxy is asked by http, https or socks5, not by %q", u.Scheme)
	case u.User != nil:
		return nil, errors.New("put user and password into proxy_auth_file, as USER:PASSWORD")
	case strings.TrimSuffix(u.RequestURI(), "/")+u.Fragment != "":
		return nil, errors.New("the URL of a proxy has a host and a port, and no path")
	}
	return u, nil
}

// URL is the proxy of a setting, nil for a direct connection. authFile, unless it is "", holds USER:PASSWORD; read reads it.
func URL[S ~[]byte](text, authFile string, read func(path string) (S, error)) (*url.URL, error) {
	u, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	if u == nil || authFile == "" {
		return u, nil
	}
	secret, err := read(authFile)
	if err != nil {
		return nil, fmt.Errorf("proxy_auth_file: %w", err)
	}
	user, password, ok := bytes.Cut(bytes.TrimSpace(secret), []byte(":"))
	if !ok || len(user) == 0 {
		return nil, fmt.Errorf("proxy_auth_file: %s does not hold USER:PASSWORD", authFile)
	}
	u.User = url.UserPassword(string(user), string(password))
	return u, nil
}

// Func is for the Proxy of an [http.Transport].
func Func(u *url.URL) func(*http.Request) (*url.URL, error) {
	if u == nil {
		return nil
	}
	return http.ProxyURL(u)
}
