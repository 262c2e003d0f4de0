package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
)

// digests makes hashes of parts of a configuration, and of the contents of the files that fields called …File name. Each
// named part is read once.
type digests map[string]string

func (d digests) of(name string, value any) string {
	if _, known := d[name]; !known {
		sum := sha256.New()
		digestValue(sum, "", reflect.ValueOf(value))
		d[name] = hex.EncodeToString(sum.Sum(nil)[:8])
	}
	return d[name]
}

// asked is a hash of everything that an order for a certificate depends on besides the CA. It changes with what an operator
// mends: a name, a profile, an email address, an EAB key, a credential file.
func (d digests) asked(c *config.Config, spec *certs.Spec) string {
	parts := []string{spec.Hash(), strings.Join(slices.Concat(spec.Solvers, spec.Issuers, spec.Trust), " "), d.of("all", []any{c.AgreeTOS, c.Email, c.Probe})}
	for _, name := range spec.Issuers {
		conf, _ := c.Issuer(name)
		parts = append(parts, d.of("issuer "+name, conf))
	}
	for _, name := range spec.Solvers {
		conf, _ := c.Solver(name)
		parts = append(parts, d.of("solver "+name, conf))
	}
	return d.of(strings.Join(parts, "\x00"), parts)
}

// targets has a hash of the settings of each target, by its ID.
func (d digests) targets(spec *certs.Spec, list []config.Install) map[string]string {
	sums := make(map[string]string, len(list))
	for i := range list {
		sums[list[i].ID()] = d.of(spec.Name+" "+list[i].ID(), []any{spec.Names(), list[i]})
	}
	return sums
}

// digestMap is the same for every order in which a map is walked.
func digestMap(v reflect.Value) string {
	sums := make([]string, 0, v.Len())
	for _, key := range v.MapKeys() {
		item := sha256.New()
		digestValue(item, key.String(), v.MapIndex(key))
		sums = append(sums, string(item.Sum(nil)))
	}
	slices.Sort(sums)
	return strings.Join(sums, "")
}

// digestList writes the elements of a slice or array.
func digestList(sum hash.Hash, field string, v reflect.Value) {
	for i := range v.Len() {
		digestValue(sum, field, v.Index(i))
	}
}

// digestValue writes a value and the names of its fields.
func digestValue(sum hash.Hash, field string, v reflect.Value) {
	write := func(text string) { _, _ = io.WriteString(sum, field+"\x00"+text+"\x00") } // a hash takes everything
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			digestValue(sum, field+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			digestValue(sum, field, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		digestList(sum, field, v)
	case reflect.Map:
		write(digestMap(v))
	case reflect.String:
		write(v.String())
		if strings.HasSuffix(field, "File") && v.String() != "" {
			write(contents(v.String()))
		}
	case reflect.Bool:
		write(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		write(strconv.FormatInt(v.Int(), 10))
	}
}

// contents is what a file holds, up to 1 MiB; only that it cannot be read, when it cannot.
func contents(path string) string {
	f, err := os.OpenFile(os.ExpandEnv(path), os.O_RDONLY|syscall.O_NONBLOCK, 0) // never waits for the writer of a pipe
	if err != nil {
		return "unreadable"
	}
	defer func() { _ = f.Close() }() // nothing was written
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "unreadable"
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return "unreadable"
	}
	return string(text)
}
