package change

import (
	"fmt"
	"os/user"
	"strconv"
)

// LookupOwner finds a user and a group by name or by number. An empty one is kept as it is; without either the result
// is nil, as [File] wants it.
func LookupOwner(userName, groupName string) (*Owner, error) {
	if userName == "" && groupName == "" {
		return nil, nil
	}
	uid, err := number(userName, func() (string, error) {
		u, err := user.Lookup(userName)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return nil, fmt.Errorf("owner %q: %w", userName, err)
	}
	gid, err := number(groupName, func() (string, error) {
		g, err := user.LookupGroup(groupName)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return nil, fmt.Errorf("group %q: %w", groupName, err)
	}
	return &Owner{UID: uid, GID: gid}, nil
}

// number keeps nothing, takes an ID as it is and looks a name up.
func number(name string, lookUp func() (string, error)) (int, error) {
	if name == "" {
		return Keep, nil
	}
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	text, err := lookUp()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
