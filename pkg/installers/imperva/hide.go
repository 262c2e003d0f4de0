package imperva

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// redacted stands for what was taken out of a text of the other side.
const redacted = "<redacted>"

// A piece of a text is taken out when it has so many characters in a row in common with a secret. Words need more, because
// some short ones are in every long secret; what is left of a text without its separators needs more still.
const (
	commonPiece = 3
	commonWord  = 5
	commonText  = 8
)

var (
	// piece is what a part of a secret can look like, whatever its encoding.
	piece = regexp.MustCompile(`[A-Za-z0-9+/=_-]+`)
	// word is a piece as the API itself writes them.
	word = regexp.MustCompile(`^([A-Za-z][a-z]*|[a-z]{2,}([A-Z][a-z]{2,})*|[A-Z]+|[0-9]+)([_/-]([a-z]{2,}|[0-9]{2,}))*$`)
	// encoded is how a long piece of a key looks. The other side need not repeat what it was sent.
	encoded = regexp.MustCompile(`[A-Za-z0-9+/=%]{40,}`)
)

// shortest is how long a secret must be to be looked for as a whole: nothing remains of a text without its ones and twos.
const shortest = 4

// hider takes secrets, and every part of them that can be told from a word, out of texts of the other side.
type hider struct {
	whole *strings.Replacer
	parts map[int]map[string]bool // by their length
}

// newHider hides the fields of a form that are secret.
func newHider(form url.Values, keyPEM []byte) *hider {
	h := &hider{parts: map[int]map[string]bool{commonPiece: {}, commonWord: {}, commonText: {}}}
	var pairs []string
	for _, field := range []string{"private_key", "passphrase", "api_key", "api_id"} {
		value := form.Get(field)
		if len(value) >= shortest {
			quoted := strconv.Quote(value)
			for _, shape := range []string{value, url.QueryEscape(value), quoted[1 : len(quoted)-1]} {
				pairs = append(pairs, shape, redacted)
			}
		}
		if field != "api_id" {
			h.add(value)
		}
	}
	h.whole = strings.NewReplacer(pairs...)
	if block, _ := pem.Decode(keyPEM); block != nil {
		for _, bytes := range [][]byte{keyPEM, block.Bytes} {
			for skip := range 3 { // the three ways in which base64 can fall on the same bytes
				h.add(base64.StdEncoding.EncodeToString(bytes[skip:]))
				h.add(base64.URLEncoding.EncodeToString(bytes[skip:]))
			}
		}
		h.add(hex.EncodeToString(block.Bytes))
		h.add(strings.ToUpper(hex.EncodeToString(block.Bytes)))
	}
	return h
}

func (h *hider) add(secret string) {
	for length, parts := range h.parts {
		for i := range len(secret) - length + 1 {
			parts[secret[i:i+length]] = true
		}
	}
}

// shares reports whether a text has so many characters in a row in common with a secret.
func (h *hider) shares(text string, length int) bool {
	for i := range len(text) - length + 1 {
		if h.parts[length][text[i:i+length]] {
			return true
		}
	}
	return false
}

// hide is the text without secrets. One that is a secret cut into pieces, too small to be told from words, is not shown at
// all.
func (h *hider) hide(text string) string {
	if strings.Contains(text, "PRIVATE KEY") {
		return redacted
	}
	text = encoded.ReplaceAllString(h.whole.Replace(text), redacted)
	text = piece.ReplaceAllStringFunc(text, func(part string) string {
		length := commonPiece
		if word.MatchString(part) {
			length = commonWord
		}
		if h.shares(part, length) {
			return redacted
		}
		return part
	})
	if h.shares(strings.Join(piece.FindAllString(strings.ReplaceAll(text, redacted, ""), -1), ""), commonText) {
		return redacted
	}
	return text
}
