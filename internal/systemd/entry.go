package systemd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"
)

// JournalSocket is where the journal takes entries with fields.
const JournalSocket = "/run/systemd/journal/socket"

const (
	// maxValue is how much of one value is sent. A longer entry would not fit into a datagram.
	maxValue = 32 << 10
	// journalTime is how long an overloaded journal may take.
	journalTime = time.Second
)

// Field is one field of an entry in the journal. Names consist of capital letters, digits and underscores.
type Field struct{ Name, Value string }

// Log sends one entry to the journal that listens on the socket at path, as its native protocol says. Values are cut after
// 32 KiB. An error says that the journal has not got the entry. It waits for an overloaded journal for a second, where
// coreos/go-systemd waits without end and would hold the daemon up.
func Log(path string, fields ...Field) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetWriteDeadline(time.Now().Add(journalTime)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := conn.Write(encode(fields)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// encode writes NAME=value, or for a value of several lines the name, its length and the value.
func encode(fields []Field) []byte {
	var out bytes.Buffer
	for _, f := range fields {
		value := f.Value
		if len(value) > maxValue {
			value = strings.ToValidUTF8(value[:maxValue], "")
		}
		out.WriteString(f.Name)
		if strings.Contains(value, "\n") {
			out.WriteByte('\n')
			out.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
		} else {
			out.WriteByte('=')
		}
		out.WriteString(value)
		out.WriteByte('\n')
	}
	return out.Bytes()
}
