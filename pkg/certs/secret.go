package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

const redacted = "<redacted>"

// Secret is a value that must never be seen: a private key, an HMAC, a token. Every way of printing it, through fmt,
// encoding/json, encoding text or zap, shows "<redacted>". Code that needs the bytes converts with []byte(s).
type Secret []byte

// String returns "<redacted>".
func (s Secret) String() string { return redacted }

// GoString returns "<redacted>", so that %#v does not print the bytes either.
func (s Secret) GoString() string { return redacted }

// Format writes "<redacted>" for every verb, %x and %q included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "<redacted>". It also serves encoding/json, yaml encoders and zap's reflection.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// CleanSecret takes off a secret from a file what editors add to it: the byte order mark of UTF-8 and line ends behind it.
// A file in UTF-16 is an error. The bytes between are kept, spaces and quotes too, because they may be part of the secret.
func CleanSecret(text []byte) (Secret, error) {
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, errors.New("the file is in UTF-16; save it as UTF-8")
	}
	return bytes.TrimRight(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), "\r\n"), nil
}
