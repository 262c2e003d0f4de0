package dns01

import (
	"fmt"
	"strings"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
)

// maxSecretFile bounds files of credentials, which have some lines.
const maxSecretFile = 64 << 10

// readSecretFile reads a small file, as [vetted.ReadFile] does, that nobody else may read.
func readSecretFile(path string) (certs.Secret, error) {
	data, err := vetted.ReadFile(path, 0o077, maxSecretFile)
	if err != nil {
		return nil, err
	}
	secret, err := certs.CleanSecret(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

// readEnvFile reads NAME=value lines. Empty lines and lines that begin with # or ; are skipped, "export " before a name
// one pair of quotes around a value, and a comment behind the quotes are removed. Nothing is expanded. Errors name lines, never their content.
func readEnvFile(path string) (map[string]string, error) {
	text, err := readSecretFile(path)
	if err != nil {
		return nil, fmt.Errorf("environment file: %w", err)
	}
	env, err := parseEnv(string([]byte(text)))
	if err != nil {
		return nil, fmt.Errorf("environment file %s: %w", path, err)
	}
	return env, nil
}

func parseEnv(text string) (map[string]string, error) {
	env := map[string]string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, found := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		switch {
		case !found:
			return nil, fmt.Errorf("line %d is not NAME=value", number)
		case !envName(name):
			return nil, fmt.Errorf("line %d: a variable's name has letters, digits and underscores only", number)
		case strings.ContainsRune(value, 0):
			return nil, fmt.Errorf("line %d: a value cannot contain a zero byte", number)
		}
		if _, twice := env[name]; twice {
			return nil, fmt.Errorf("line %d: %s is there twice", number, name)
		}
		env[name] = unquote(strings.TrimSpace(value))
	}
	return env, nil
}

func unquote(value string) string {
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return value
	}
	inside, rest, closed := strings.Cut(value[1:], value[:1])
	if rest = strings.TrimLeft(rest, " \t"); closed && (rest == "" || rest[0] == '#') {
		return inside
	}
	if n := len(value) - 1; n > 0 && value[n] == value[0] {
		return value[1:n]
	}
	return value
}

func envName(name string) bool {
	for i, c := range name {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
