package issuer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"

	"github.com/go-acme/lego/v4/acme"
)

// tidy rewrites what CAs in the field send differently from RFC 8555 and what can mean one thing only, before it is decoded:
// an account without a status or without a body, and identifiers in another spelling.
func (c *client) tidy(address string, a *answer) {
	account := address == c.dir.NewAccountURL
	if !account && !bytes.Contains(a.body, []byte(`"identifier`)) {
		return
	}
	doc := map[string]json.RawMessage{}
	if (!account || !isEmptyAccount(a)) && (json.Unmarshal(a.body, &doc) != nil || doc == nil) {
		return
	}
	changed := account && len(doc["status"]) == 0 // RFC 8555 section 7.1.2 requires it
	if changed {
		doc["status"] = json.RawMessage(`"` + acme.StatusValid + `"`)
	}
	changed = respellAll(doc) || changed
	if body, err := json.Marshal(doc); changed && err == nil {
		a.body = body
	}
}

// isEmptyAccount reports whether an account has a URL and nothing else.
func isEmptyAccount(a *answer) bool {
	return len(bytes.TrimSpace(a.body)) == 0 && a.header.Get("Location") != ""
}

func respellAll(doc map[string]json.RawMessage) (changed bool) {
	for key, list := range map[string]bool{"identifier": false, "identifiers": true} {
		if spelt, ok := respell(doc[key], list); ok {
			doc[key], changed = spelt, true
		}
	}
	return changed
}

// respell gives one identifier, or a list of them, the spelling in which acmed orders them.
func respell(raw json.RawMessage, list bool) (spelt json.RawMessage, changed bool) {
	var ids []acme.Identifier
	if !list {
		raw = bytes.Join([][]byte{[]byte("["), raw, []byte("]")}, nil)
	}
	if json.Unmarshal(raw, &ids) != nil || len(ids) == 0 {
		return nil, false
	}
	for n := range ids {
		value := strings.TrimSuffix(strings.ToLower(ids[n].Value), ".")
		if addr, err := netip.ParseAddr(value); err == nil {
			value = addr.String()
		}
		kind := strings.ToLower(ids[n].Type)
		changed = changed || value != ids[n].Value || kind != ids[n].Type
		ids[n].Type, ids[n].Value = kind, value
	}
	var out any = ids
	if !list {
		out = ids[0]
	}
	text, err := json.Marshal(out)
	return text, changed && err == nil
}

// nonceRefused reports whether a CA does not answer HEAD at newNonce, so that it is asked by GET (RFC 8555 section 7.2).
func nonceRefused(err error) bool {
	p := problemOf(err)
	return p != nil && !p.limited() && (p.status < http.StatusInternalServerError || p.status == http.StatusNotImplemented)
}
