
a

shop.protoshop"
Item
name (	Rname2)
Catalog
Find
.shop.Item
.shop.Itembproto3