package openjson_test

import (
	"encoding/json"
	"testing"

	"github.com/acmed/acmed/internal/openjson"
)

type inner struct {
	B string `json:"b,omitempty"`
}

type value struct {
	A int `json:"a,omitempty"`
	inner
	C *inner `json:"c,omitempty"`
}

func TestMarshalKeepsWhatItDoesNotKnow(t *testing.T) {
	for name, test := range map[string]struct {
		v    any
		old  string
		want string
	}{
		"no old value":      {&value{A: 1}, ``, `{"a":1}`},
		"nothing unknown":   {&value{A: 2}, `{"a":1,"b":"x"}`, `{"a":2}`},
		"unknown member":    {&value{A: 2}, `{"a":1,"z":{"deep":[1,2]},"y":null}`, `{"a":2,"y":null,"z":{"deep":[1,2]}}`},
		"all fields empty":  {value{}, `{"a":1,"z":1}`, `{"z":1}`},
		"other case":        {&value{}, `{"A":1,"B":"q"}`, `{}`},
		"not an object":     {&value{A: 3}, `[1]`, `{"a":3}`},
		"large number kept": {&value{}, `{"n":12345678901234567890}`, `{"n":12345678901234567890}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := openjson.Marshal(test.v, []byte(test.old))
			if err != nil || string(got) != test.want || !json.Valid(got) {
				t.Fatalf("got %s, %v; want %s", got, err, test.want)
			}
		})
	}
}
