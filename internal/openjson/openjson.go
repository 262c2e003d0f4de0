// Package openjson encodes JSON objects that other releases write too: what this release does not know is kept.
package openjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
)

// Marshal encodes the struct v and adds the members of the object old that v has no field for. Old may be empty; if it
// is no JSON object, nothing of it is kept. Members inside nested objects are not kept.
func Marshal(v any, old []byte) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil || len(old) == 0 {
		return text, err
	}
	var kept map[string]json.RawMessage
	if json.Unmarshal(old, &kept) != nil {
		return text, nil
	}
	forget(kept, reflect.TypeOf(v))
	if len(kept) == 0 {
		return text, nil
	}
	added, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(text, []byte("{}")) {
		return added, nil
	}
	return append(append(text[:len(text)-1], ','), added[1:]...), nil
}

// forget removes the members that the struct type t has fields for.
func forget(members map[string]json.RawMessage, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			forget(members, f.Type)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		for member := range members {
			if strings.EqualFold(member, name) { // as encoding/json matches them
				delete(members, member)
			}
		}
	}
}
