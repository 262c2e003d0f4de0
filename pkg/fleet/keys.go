package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// keys names everything below /acmed/<fleet>/v1/. Claims, answers and nodes end with a lease, the rest stays.
type keys struct{ root string }

func newKeys(fleet string) keys { return keys{"/acmed/" + fleet + "/v1/"} }

// CheckFleetName reports why a fleet's name cannot be used. It follows the rules for certificate names.
func CheckFleetName(name string) error {
	if err := certs.CheckName(name); err != nil {
		return fmt.Errorf("fleet name: %w", err)
	}
	return nil
}

func (k keys) meta() string { return k.root + "meta" }

func (k keys) account(directory, contact string) string {
	sum := sha256.Sum256([]byte(directory + "\n" + contact))
	return k.root + "account/" + hex.EncodeToString(sum[:16])
}

func (k keys) budget(account string) string {
	return k.root + "budget/" + account[strings.LastIndexByte(account, '/')+1:]
}

func (k keys) heads() string           { return k.root + "head/" }
func (k keys) head(name string) string { return k.heads() + shard(name) + "/" + name }

func (k keys) data(name string, n int64) string {
	return k.root + "data/" + shard(name) + "/" + name + "/" + strconv.FormatInt(n, 10)
}

func (k keys) claim(name string) string         { return k.root + "claim/" + name }
func (k keys) order(name, slot string) string   { return k.root + "order/" + name + "/" + slot }
func (k keys) answer(kind, ident string) string { return k.root + "answer/" + kind + "/" + ident }
func (k keys) node(id string, lease int64) string {
	return k.root + "node/" + id + "/" + strconv.FormatInt(lease, 16)
}

// watched are the ranges that every node follows: everything but the versions themselves.
func (k keys) watched() []Range {
	return []Range{{From: k.root, To: k.root + "data/"}, {From: k.root + "data0", To: k.root[:len(k.root)-1] + "0"}}
}

// shardRanges splits the heads into ranges of about equal size.
func (k keys) shardRanges() []Range {
	list := make([]Range, 256)
	for i := range list {
		list[i] = Prefix(fmt.Sprintf("%s%02x/", k.heads(), i))
	}
	return list
}

// split takes a key apart: its kind, such as "head", and what follows the kind.
func (k keys) split(key string) (kind, rest string) {
	kind, rest, _ = strings.Cut(strings.TrimPrefix(key, k.root), "/")
	return kind, rest
}

// shard is the first byte of the hash of a certificate's name.
func shard(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:1])
}

// lastPart is what follows the last slash of a key.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }
