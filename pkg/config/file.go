package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	maxFile   = 1 << 20  // bytes of one configuration, CSR or CA file
	maxSecret = 64 << 10 // bytes of one secret
)

// credentials is how the configuration spells a systemd credential (LoadCredential=, SetCredentialEncrypted=).
const credentials = "$CREDENTIALS_DIRECTORY/"

// ReadSecret reads a secret from a file, as [certs.CleanSecret] does. The path is absolute, or
// $CREDENTIALS_DIRECTORY/NAME for the systemd credential NAME.
//
// The file must be a regular file, belong to root or to the user that runs acmed, and be neither readable nor writable
// by group or others. For a credential, systemd sets the owner and an access list that shows as group-readable, so that
// one bit is allowed there. No error contains any part of the secret.
func ReadSecret(path string) (certs.Secret, error) {
	forbidden := fs.FileMode(0o077)
	file := path
	if name, found := strings.CutPrefix(path, credentials); found {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if !filepath.IsAbs(dir) {
			return nil, fmt.Errorf("%s: the environment has no CREDENTIALS_DIRECTORY; add LoadCredential=%s:FILE to the systemd unit", path, name)
		}
		file, forbidden = filepath.Join(dir, name), 0o037
	}
	data, err := readFile(file, forbidden, maxSecret)
	if err != nil {
		return nil, err
	}
	secret, err := certs.CleanSecret(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(secret) == 0 {
		return nil, fmt.Errorf("%s is empty", file)
	}
	return secret, nil
}

// checkSecretPath reports why a path cannot be given to ReadSecret. It does not look at the disk.
func checkSecretPath(path string) error {
	if name, found := strings.CutPrefix(path, credentials); found {
		if name == "" || name != filepath.Base(name) || name == "." || name == ".." {
			return fmt.Errorf("%s must be followed by the name of one credential", strings.TrimSuffix(credentials, "/"))
		}
		return nil
	}
	return checkPath(path)
}

// checkPath reports why a path in the configuration is refused.
func checkPath(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", quote(path))
	}
	return nil
}

// readFile reads a file that decides what acmed does, as [vetted.ReadFile] does: whoever can write it is acmed.
func readFile(path string, forbidden fs.FileMode, most int64) ([]byte, error) {
	data, err := vetted.ReadFile(path, forbidden, most)
	if err != nil {
		return nil, openError(path, err)
	}
	return data, nil
}

func openError(path string, err error) error {
	if target, lerr := os.Readlink(path); lerr == nil && errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is a symbolic link to %s, which does not exist: %w", path, quote(target), fs.ErrNotExist)
	}
	return err
}
