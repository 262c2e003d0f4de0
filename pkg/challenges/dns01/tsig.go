package dns01

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// tsigKey is the shared secret of RFC 8945.
type tsigKey struct {
	name      string // lower case, with the final dot
	algorithm string // as in the protocol, for example "hmac-sha256."
	secret    certs.Secret
}

func readTSIGKey(path string) (*tsigKey, error) {
	text, err := readSecretFile(path)
	if err != nil {
		return nil, fmt.Errorf("TSIG key: %w", err)
	}
	key, err := parseTSIGKey(string([]byte(text)))
	if err != nil {
		return nil, fmt.Errorf("TSIG key %s: %w", path, err)
	}
	return key, nil
}

// parseTSIGKey reads what tsig-keygen prints, key "name" { algorithm hmac-sha256; secret "..."; };, or the short form
// [algorithm:]name:secret of dig and nsupdate. The errors contain nothing of the text.
func parseTSIGKey(text string) (*tsigKey, error) {
	words := tsigWords(text)
	if len(words) == 1 {
		return shortTSIGKey(words[0])
	}
	if len(words) < 2 || words[0] != "key" {
		return nil, errors.New(`want the output of tsig-keygen, key "name" { algorithm ...; secret "..."; };, or [algorithm:]name:secret`)
	}
	algorithm, secret := "", ""
	for i, w := range words[:len(words)-1] {
		switch {
		case i < 2: // the name is the second word, whatever it is
		case w == "algorithm":
			algorithm = words[i+1]
		case w == "secret":
			secret = words[i+1]
		case w == "key":
			return nil, errors.New("there is more than one key")
		}
	}
	return newTSIGKey(algorithm, words[1], secret)
}

// tsigWords splits as BIND does: a comment (#, // or /* */) begins where a word could, so that one within a secret is part
// of it.
func tsigWords(text string) []string {
	const between = " \t\r\n{};"
	var words []string
	for {
		text = strings.TrimLeft(text, between)
		end := ""
		switch {
		case text == "":
			return words
		case text[0] == '#', strings.HasPrefix(text, "//"):
			end = "\n"
		case strings.HasPrefix(text, "/*"):
			end = "*/"
		}
		if end != "" {
			_, text, _ = strings.Cut(text, end)
			continue
		}
		var word string
		if text[0] == '"' {
			word, text, _ = strings.Cut(text[1:], `"`)
		} else {
			n := strings.IndexAny(text, between)
			if n < 0 {
				n = len(text)
			}
			word, text = text[:n], text[n:]
		}
		words = append(words, word)
	}
}

func shortTSIGKey(word string) (*tsigKey, error) {
	parts := strings.Split(word, ":")
	switch len(parts) {
	case 2:
		return newTSIGKey("", parts[0], parts[1])
	case 3:
		return newTSIGKey(parts[0], parts[1], parts[2])
	}
	return nil, errors.New("want [algorithm:]name:secret")
}

func newTSIGKey(algorithm, name, secret string) (*tsigKey, error) {
	if algorithm == "" {
		algorithm = "hmac-sha256"
	}
	k := &tsigKey{name: strings.ToLower(dns.Fqdn(name)), algorithm: strings.ToLower(dns.Fqdn(algorithm))}
	switch k.algorithm {
	case dns.HmacSHA1, dns.HmacSHA224, dns.HmacSHA256, dns.HmacSHA384, dns.HmacSHA512:
	default:
		return nil, errors.New("the algorithm is not one of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512")
	}
	if !dnsquery.PlainName(k.name) {
		return nil, errors.New("the name of the key is not a domain name")
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(secret, "="))
	if err != nil || len(raw) == 0 {
		return nil, errors.New("the secret is not base64")
	}
	k.secret = certs.Secret(base64.StdEncoding.EncodeToString(raw))
	return k, nil
}
