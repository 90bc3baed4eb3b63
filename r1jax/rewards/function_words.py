"""The most frequent words of languages that share a script with others, and the letters that each is written with.

They are words that hardly any sentence goes without: articles, pronouns, prepositions, forms of 'to be'. Which language
a text is in can be told from them alone, if it has a few sentences (language.py says how). Single Latin letters are
left out, since in a text about numbers they are variables; so are words that are common in several other languages
with another meaning. The choice of words is ours.
"""

import unicodedata

_LATIN, _RUSSIAN = 'abcdefghijklmnopqrstuvwxyz', 'абвгдежзийклмнопрстуфхцчшщъыьэюяё'
_ARABIC = 'ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي'
_PERSIAN = 'ءآأؤئابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهۀیكي'

# Language -> the letters of its alphabet; an empty text: any of its script.
LETTERS = {
  'en': _LATIN + 'àçèéêëïñö',  # of words such as naïve
  'es': _LATIN + 'áéíñóúü',
  'pt': _LATIN + 'áâãàçéêíóôõúü',
  'ca': _LATIN + 'àçéèíïóòúü',
  'fr': _LATIN + 'àâçéèêëîïôùûüÿœæ',
  'it': _LATIN + 'àèéìíîòóùú',
  'ro': _LATIN + 'ăâîșțşţ',
  'de': _LATIN + 'äöüß',
  'nl': _LATIN + 'áéëèêïíóöúü',
  'da': _LATIN + 'åæøéá',
  'sv': _LATIN + 'åäöéà',
  'fi': _LATIN + 'äöåšž',
  'pl': _LATIN + 'ąćęłńóśźż',
  'cs': _LATIN + 'áčďéěíňóřšťúůýž',
  'tr': _LATIN + 'çğıöşüâîû\u0307',
  'vi': _LATIN + 'ăâđêôơưàáảãạằắẳẵặầấẩẫậèéẻẽẹềếểễệìíỉĩịòóỏõọồốổỗộờớởỡợùúủũụừứửữựỳýỷỹỵ',
  'id': _LATIN,
  'sw': _LATIN,
  'ru': _RUSSIAN,
  'uk': 'абвгґдеєжзиіїйклмнопрстуфхцчшщьюя',
  'be': 'абвгдеёжзійклмнопрстуўфхцчшыьэюя',
  'bg': 'абвгдежзийклмнопрстуфхцчшщъьюяѝ',
  'sr': 'абвгдђежзијклљмнњопрстћуфхцчџш',
  'ar': _ARABIC,
  'fa': _PERSIAN,
  'ur': 'ءآأؤئابپتٹثجچحخدڈذرڑزژسشصضطظعغفقکگلمنںوہھۂۃیےۓكيه',
  'hi': '',
  'mr': '',
  'ne': '',
}

_WORDS = {
  'en': 'the of and to in is that it for was on are as with his they at be this from or had by but not what all were '
        'we when your can said there use an each which she do how their if will up other about out many then them '
        'these so some her would make like him into has look more two go see no could my than been its who now did '
        'get come may you he have also our any because where should does very me only most such through after while '
        'just over between must before',
  'es': 'el la los las de que en un una unos unas es son por con para del al lo le les su sus se no más pero como '
        'muy ya si sí me mi mis te tu yo él ella ellos ella nos este esta esto estos estas ese esa eso está están '
        'hay fue era ser tiene tienen puede pueden cuando donde qué porque también entre sin sobre hasta desde todo '
        'todos todas cada o ni han ha he había hace así aunque otro otra otros mientras usted ustedes',
  'pt': 'os as de que em um uma uns umas é são por com para do da dos das no na nos nas ao aos à às lhe se não mais '
        'mas como muito já sim me meu minha te seu sua seus suas eu ele ela eles elas nós este esta isto esse essa '
        'isso está estão há foi era ser tem têm pode podem quando onde porque também entre sem sobre até desde todo '
        'todos todas cada ou nem pelo pela pelos pelas num numa ainda assim você vocês outro outra depois bem',
  'ca': 'el la els les de que en un una uns unes és es han són per amb al als del dels pel li se no més però '
        'com molt ja si '
        'sí em meu meva et teu ell ella ells nosaltres aquest aquesta això aquests aquestes està estan hi ha va van '
        'era ser té tenen pot poden quan on perquè també entre sense sobre fins des tot tots totes cada ni seu seva '
        'seus vostè aquell',
  'fr': 'le la les de des du que qui en un une est sont pour par avec dans sur au aux ce cette ces il elle ils elles '
        'on nous vous je tu me te se ne pas plus mais comme très où ou et sa son ses leur leurs mon ma mes ton votre '
        'notre nos être avoir ont ai été était fait peut peuvent quand parce aussi entre sans jusque tout tous toute '
        'toutes chaque si même bien donc car ainsi alors lui eux cet ci cela après avant encore peu soit doit qu',
  'it': 'il lo la gli le di che in un uno una è sono per con del della dei delle dello degli nel nella nei nelle al '
        'alla ai alle dal dalla dai sul sulla non più ma come molto già si mi ti ci se suo sua suoi mio mia io lui lei '
        'noi voi loro questo questa questi queste quello quella essere ha hanno ho era stato può possono quando dove '
        'perché anche tra fra senza fino da ed tutto tutti tutte ogni oppure cosa così ancora poi quindi sia',
  'ro': 'și şi de la în pe cu un una este sunt pentru din că care nu mai dar ca foarte se îmi îți își lui ei lor meu '
        'mea eu el ea noi voi acest această acesta aceasta fi fost era are au poate când unde sau prin fără până tot '
        'toate fiecare cum dacă despre după între sa să al ale ai cel cea cei cele unui unei ce am',
  'de': 'der die das den dem des und ist sind ein eine einen einem einer eines nicht mit von zu zum zur im auf für '
        'auch es ich du er sie wir ihr sich mich mir dich dir uns ihm ihn ihre seine sein wird werden wurde haben hat '
        'hatte kann können muss aber oder wenn als wie wo was nur noch nach bei bis durch über unter aus dass daß '
        'weil sehr mehr alle jeder jede dieser diese dieses keine kein doch so dann um an am vor man in einander '
        'beim vom ob zwischen ohne gegen gibt immer',
  'nl': 'de het een en van ik te dat die in is niet zijn op aan met als voor er maar om hem dan zou of wat mijn deze '
        'dit ook werd bij nog zich naar heeft hebben wordt worden kan kunnen zal uit tot door over hij zij wij ze we '
        'haar geen meer omdat waar wie hoe alle toch veel moet onder tussen zonder je jij uw was waren had al',
  'da': 'og det at en den til er som på de med han af for ikke der var mig sig men et har om vi min havde ham hun nu '
        'over da fra du ud sin dem os op man hans hvor eller hvad skal selv her alle vil blev kunne ind når være noget '
        'ville deres efter hvis kan jeg så også disse dette denne bliver mere meget i',
  'sv': 'och det att en som är av för den till på med har de inte om ett han men var jag sig från vi så kan när man '
        'vid under eller också efter sin ut nu skulle där hon dem mot finns över hade alla denna detta dessa sina '
        'blir varje mycket mer vad bara än måste ska vara är du dig din oss hur',
  'fi': 'ja on ei se että oli hän ovat joka jotka mutta kun myös niin kuin ole tai mitä tämä ne sen jos nyt minä sinä '
        'me te he mukaan jonka vain olla voi voivat voit jo vielä sekä siitä ennen kanssa hyvin kaikki en hänen ollut '
        'koska sitten siinä siellä tässä nämä tämän missä miten mikä kuka yli jälkeen paljon eivät minun sinun niiden '
        'sitä hänet olisi aina itse eli ilman jossa jota joita joten mitään muun muut välillä koko',
  'pl': 'nie się na do jest że to jak ale po co tak za od jego przez dla był tym ich tego jej ma są oraz być było '
        'była może można tylko już jeszcze który która które których czy ja ty on ona oni my wy mi mnie go mu ją nas '
        'ten ta te tej tych gdy kiedy gdzie bardzo także też albo lub przed pod nad między bez aby żeby jako ze we '
        'bo więc jeśli wszystkie każdy więcej będzie są sobie ponieważ',
  'cs': 'se na je že to jak ale po co tak za od jeho pro byl tím jejich toho jsou být bylo byla může jen už ještě '
        'který která které kterých já ty on ona oni my vy mi mě ho mu ji nás ten ta ty té těch když kde velmi také '
        'nebo před pod nad mezi bez aby jako ve ze do není jsem jsme má budou bude podle při až proto než své',
  'tr': 've bir bu da de için ile olarak olan çok daha en gibi kadar sonra ama ne ben sen biz siz onlar onu onun '
        'ya değil var yok her ki mi mı olduğu olduğunu tarafından ancak şey diye veya hem ise göre şu kendi bana sana '
        'önce iki nasıl neden hiç bütün tüm içinde üzerinde arasında eğer oldu olur olabilir vardır',
  'vi': 'và của là có không được cho với các những một trong này người đã để khi từ đến về cũng như tôi bạn anh chị '
        'em họ chúng ta nó thì mà ở ra vào lên nhiều rất đó hay hoặc nếu vì nên sẽ đang phải bị bởi tại trên dưới '
        'theo hơn sau trước còn chỉ việc năm gì ai đây làm rằng thể cần nhất mỗi lại đi',
  'id': 'yang dan di dari untuk dengan ini itu pada adalah tidak dalam akan ke oleh karena sebagai juga atau ada '
        'dapat bisa saya anda kamu dia mereka kami kita telah sudah lebih tersebut bahwa para seperti saat tetapi '
        'jika hanya antara secara setelah sebuah banyak semua harus lain bagi hingga',
  'sw': 'na ya wa kwa ni katika la za cha vya kuwa hii huu huo hiyo hizi hayo haya hao huyu yake wake zake lake cake '
        'chake vyake kama pia lakini au si sana mimi wewe yeye sisi wao watu mtu ambao ambayo ambaye kutoka hadi '
        'baada kabla juu ndani kila wote yote zote moja wakati bila hivyo kwamba alikuwa ilikuwa walikuwa mwa pa ile '
        'yule wale kwenye zaidi tu bado sasa mara tena wengi nyingi mengi kuna hakuna yangu wangu',
  'ru': 'и в не на я что он с как это а по она они мы вы ты из у к за от для так но же то все его её ее их был была '
        'было были быть бы только о об мне меня нас вас или если когда где уже при до чтобы также этот эта эти этого '
        'этой том тем который которая которые которых может можно нет есть очень еще ещё под над без после во со ли '
        'более тоже чем между потому себя кто ни сейчас этом там тут мой моя моей мои',
  'uk': 'і й та в у не на що він з із як це а по вона вони ми ви ти за від для так але ж то все його її їх був була '
        'було були бути би тільки про мені мене нас вас або якщо коли де вже при до щоб також цей ця ці цього цієї '
        'тому тим який яка які яких може можна немає є дуже ще під над без після чи більше теж ніж між бо себе хто '
        'зі через я треба свої цьому там тут мій моя моєї мої',
  'be': 'і й у не на я што ён з са як гэта а па яна яны мы вы ты за ад для так але ж то усе яго яе іх быў была было '
        'былі быць толькі аб мне мяне нас вас або калі дзе ўжо пры да каб таксама гэты гэтая гэтыя які якая якія '
        'можа няма ёсць вельмі яшчэ пад над без пасля бо там тут мой мая маёй мае сёння',
  'bg': 'и в не на аз че той с как това а по тя те ние вие ти от за до да се са е ще си но или ако когато къде вече '
        'при също този тази тези който която които което може има няма много още под над без след като към във със '
        'него нея тях му ѝ им го я ги ми ме бе беше бяха бъде само за всички всеки между повече защото най обаче '
        'дали така мога трябва един една едно сме сте съм там тук мой моя моят моята мои',
  'sr': 'и у не на ја да је су се он она они ми ви ти са из за од до по али или ако када где већ при такође овај ова '
        'ово који која које може има нема врло још под над без после као што био била било сам смо сте га му јој их '
        'све само о то ће би',
  'ar': 'و في من على إلى أن إن هذا هذه التي الذي الذين ما لا لم لن هو هي هم كان كانت عن مع أو ثم قد كل بعد قبل بين '
        'عند حتى إذا لكن ولكن كما ذلك تلك أي أنا نحن أنت غير أيضا أيضاً منذ حيث وهو وهي وفي ومن وعلى فيها فيه منها '
        'منه به بها له لها لهم عليه عليها هنا هناك يمكن يكون تكون لأن مثل خلال أكثر جدا جداً بعض وقد وأن كانوا ليس '
        'ليست عندما فإن يا أما نحو دون هل بأن فقط لقد كنت',
  'fa': 'و در به از که این را با است برای آن یک خود تا کرد بر هم نیز می شود شده باشد بود او آنها ما من شما تو ها '
        'های هر اما یا اگر چه دارد دارند کند کنند کنید شد شدن نمی پس پیش بین روی همه همین چون زیرا باید توان تواند '
        'هستند هست بودند نیست بی دیگر وی اند ای ام مورد بسیار بیشتر کردن کرده ولی بعد هنگام دو همچنین توسط اینکه '
        'وقتی کنم دهد خواهد',
  'ur': 'کے کی میں ہے اور سے کا کو اس پر یہ وہ ہیں نے نہیں بھی ایک کہ ہو تھا تھی تھے جو کر گیا گئی گئے لیے ساتھ ہم آپ '
        'تم مجھے ان اپنے اپنی اپنا ہی تو یا اگر لیکن جب کیا کوئی کچھ سب بہت تک بعد پہلے ہوتا ہوتی ہوتے رہا رہی رہے '
        'والے والی والا جا ہوں ہوئے ہوا دیا کرتے کرتا کرنے سکتا سکتے سکتی پھر جس جن جیسے ہر کیوں کیونکہ چاہیے دوسرے',
  'hi': 'के की में है और से का को इस पर यह वह हैं ने नहीं भी एक कि हो था थी थे जो कर गया गई गए लिए साथ हम आप तुम मैं '
        'मुझे उस उन अपने अपनी अपना ही तो या अगर लेकिन जब क्या कोई कुछ सब बहुत तक बाद पहले होता होती होते रहा रहे रही वाले '
        'वाली वाला जा हूँ हूं हुए हुआ हुई दिया करते करता करने करना सकता सकते सकती फिर जिस जैसे हर क्यों क्योंकि चाहिए दूसरे इन ये वे '
        'किया द्वारा इसके उनके उसके यदि तथा एवं',
  'mr': 'आहे आहेत आणि हा ही हे तो ती ते या व होता होती होते नाही नाहीत मी तू आम्ही आपण तुम्ही एक पण की का जे जो जी असे अशी '
        'असा काही खूप त्या त्याचा त्याची त्याचे त्यांच्या त्यांना आपल्या मध्ये साठी करून केले केला केली झाला झाली झाले येथे तसेच किंवा '
        'म्हणून सर्व माझे माझ्या माझी त्याला तिला तिच्या तर मला तुला जर कारण फार सुद्धा देखील ना न असतो असते असतात त्यामुळे अनेक '
        'यांनी यांच्या करणे नंतर पर्यंत सगळे येते जाते होतो होतात प्रत्येक पाहिजे शकतो शकते आले आला आली',
  'ne': 'छ छन् छैन छैनन् र यो त्यो पनि भने गर्न गरे गरेको भएको थियो थिए थिइन् लागि हुन्छ हुन् हुने हुन हो म मेरो हामी हाम्रो '
        'तिमी तपाईं उनी उनले तर यस अनि के कि नै गर्ने साथ धेरै सबै अरू एक एउटा यसरी त्यस गर्छ गर्छन् गर्नुहोस् भन्ने भयो गरी '
        'लाई मा को का की ले बाट सँग तथा वा यदि जब जहाँ किन कसरी अब पछि अघि मात्र प्रति यी ती उसले मलाई हामीले यसको त्यहाँ यहाँ '
        'छु छौं सक्छ सकिन्छ गर्दै जुन भएर कुनै रहेको गरेर हरेक',
}  # fmt: skip

WORDS = {
  language: frozenset(unicodedata.normalize('NFKC', words).split())
  for language, words in _WORDS.items()
}
