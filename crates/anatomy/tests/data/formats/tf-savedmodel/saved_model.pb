"
"serve*2.15.0

nodeConst