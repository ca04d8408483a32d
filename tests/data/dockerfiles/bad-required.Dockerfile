FROM a
USER ${WHO:?who shall it be}
