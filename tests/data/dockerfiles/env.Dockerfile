FROM scratch
ENV A=one B="two words" C=three\ words D='$A' E="$A" F=
ENV OLD the old form $A
ENV A=changed WAS=$A
ENV NOW=${A}
