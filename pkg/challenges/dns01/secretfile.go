package dns01

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/acmed/acmed/pkg/certs"
)

// maxSecretFile bounds files of credentials, which have some lines.
const maxSecretFile = 64 << 10

// readSecretFile reads a small regular file that nobody but its owner may read.
func readSecretFile(path string) (certs.Secret, error) {
	text, mode, err := readSmallFile(path)
	if err == nil && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so others can read the secrets in it; run: chmod 600 %s", path, mode, path)
	}
	if err != nil {
		return nil, err
	}
	if text, err = certs.CleanSecret(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}

func readSmallFile(path string) (certs.Secret, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not block the open
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > maxSecretFile:
		return nil, 0, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, info.Size(), maxSecretFile)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	return text, info.Mode().Perm(), err
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
