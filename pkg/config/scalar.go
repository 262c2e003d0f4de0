package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/internal/text"
)

// scalar reads a node as text, a truth value, a whole number or a duration. YAML's guesses are not followed: a value
// must look like its type, so that neither 1.10 nor no becomes something else on the way.
func scalar(n *yaml.Node, t reflect.Type) (any, error) {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return durationOf(n)
	case t.Kind() == reflect.String:
		return textOf(n)
	case t.Kind() == reflect.Bool:
		return boolOf(n)
	case t.Kind() == reflect.Int:
		return intOf(n)
	case t.Kind() == reflect.Uint16:
		return portOf(n)
	}
	return nil, fmt.Errorf("values of type %s cannot be configured", t)
}

func durationOf(n *yaml.Node) (any, error) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return nil, fmt.Errorf("expected a duration such as 30d, 72h or 90s, found %s", kind(n))
	}
	return ParseDuration(n.Value)
}

// doubtful are the words that YAML 1.1 reads as truth values, and YAML 1.2 as text.
var doubtful = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`)

func textOf(n *yaml.Node) (any, error) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return nil, fmt.Errorf("expected text, found %s", kind(n))
	}
	if n.ShortTag() != "!!str" {
		return nil, fmt.Errorf("expected text, found %s; if it is meant as text, write %s", kind(n), quote(n.Value))
	}
	if n.Style == 0 && doubtful.MatchString(n.Value) {
		return nil, fmt.Errorf("expected text, found %s, which some read as true or false; write \"%s\"", n.Value, n.Value)
	}
	if i := strings.IndexFunc(n.Value, unicode.IsControl); i >= 0 {
		return nil, fmt.Errorf("%s has a control character", quote(n.Value))
	}
	return n.Value, nil
}

func boolOf(n *yaml.Node) (any, error) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		return strings.EqualFold(n.Value, "true"), nil
	}
	return nil, fmt.Errorf("expected true or false, found %s", kind(n))
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func intOf(n *yaml.Node) (any, error) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || !decimal.MatchString(n.Value) {
		return nil, fmt.Errorf("expected a whole number, found %s", kind(n))
	}
	v, err := strconv.Atoi(n.Value)
	if err != nil {
		return nil, fmt.Errorf("the number %s is too large", text.Short(n.Value, text.Value))
	}
	return v, nil
}

func portOf(n *yaml.Node) (any, error) {
	v, err := intOf(n)
	if port, ok := v.(int); ok && (port < 1 || port > math.MaxUint16) {
		return nil, fmt.Errorf("%d is not a port", port)
	}
	return v, err
}

// kind names what a node is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a section of keys and values"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + text.Short(n.Value, text.Value)
	case "!!bool":
		return n.Value
	case "!!timestamp":
		return "the date " + text.Short(n.Value, text.Value)
	case "!!str":
		return "the text " + quote(n.Value)
	}
	return "a value with the tag " + quote(n.ShortTag())
}
