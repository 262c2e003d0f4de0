package systemd

import "os"

// Booted reports whether systemd runs this machine, as sd_booted(3) does. It does not in most containers, nor with OpenRC
// or runit: units can then be neither asked for nor reloaded.
func Booted() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}
