package config

import (
	"path/filepath"
	"reflect"
)

// Socket is where the daemon with the configuration at path listens. It is found whatever else is wrong with the
// configuration: a daemon goes on with the one that it has, and must stay within reach. Secrets and other files that the
// configuration names need not be readable.
func Socket(path string) string {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}}
	main := l.read(path)
	for _, s := range append([]*source{main}, l.included(main)...) {
		if socket, ok := s.values["socket"].(string); ok && filepath.IsAbs(socket) {
			return socket
		}
	}
	return defaults().Socket
}
